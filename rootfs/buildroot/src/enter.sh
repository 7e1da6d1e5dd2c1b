# Runs a program in the build root. It is started in a mount namespace of its own, so
# nothing it mounts is seen outside and everything goes away with the program.
#
# Arguments: the unpacked tree; the number of bind mounts; for each of them the mode
# (ro or rw), the source and its place in the root; the program and its arguments.
set -eu
tree=$1
count=$2
shift 2

# The root is a small tmpfs, so that places for bind mounts can be made anywhere
# without writing to the unpacked tree, which the cache wants back as it was.
root=$tree/mnt
mount -t tmpfs -o mode=755 keelson-buildroot "$root"
for entry in "$tree"/*; do
    place=$root/${entry##*/}
    if [ -L "$entry" ]; then
        ln -s "$(readlink "$entry")" "$place"
        continue
    fi
    mkdir "$place"
    case ${entry##*/} in
    dev | proc | sys)
        mount --rbind "/${entry##*/}" "$place"
        ;;
    etc | opt | usr | var)
        mount --bind "$entry" "$place"
        # In a user namespace on some mounts the kernel refuses; the cache's check
        # of the tree then is what notices a stray write.
        mount -o remount,bind,ro "$place" 2>/dev/null || :
        ;;
    tmp)
        chmod 1777 "$place"
        ;;
    esac
done

while [ "$count" -gt 0 ]; do
    mode=$1
    source=$2
    place=$root$3
    shift 3
    count=$((count - 1))
    if [ -d "$source" ]; then
        mkdir -p "$place"
    else
        mkdir -p "${place%/*}"
        [ -e "$place" ] || : >"$place"
    fi
    mount --rbind "$source" "$place"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$place"
done

folder=$PWD
[ -d "$root$folder" ] || folder=/
exec chroot "$root" /usr/bin/env -C "$folder" "$@"
