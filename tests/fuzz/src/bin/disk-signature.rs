//! What blkid says of a disk: a wrong answer lets kubelet format it, a panic keeps a pod waiting.

use std::process::ExitCode;

use keelson_fuzz_engine::Target;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: LONGEST,
    })
}

/// Most marks are in the first 4 KiB; the others are reached through the number in front.
const LONGEST: usize = 4096;

fn run(bytes: &[u8]) {
    // Units of 4 KiB in front of the bytes.
    let (place, content) = keelson_fuzz::choose(bytes, 18);
    let disk = [&vec![0; place * 4096], content].concat();
    if let Err(error) = keelson_tools::fuzzing::identify(&disk) {
        panic!("a disk of {} bytes cannot be read: {error}", disk.len());
    }
}

/// ext4, FAT, swap, an old and a new partition table.
fn seeds() -> Vec<Vec<u8>> {
    let disk = |marks: &[(usize, &[u8])]| {
        let mut bytes = vec![0; LONGEST];
        for (at, mark) in marks {
            // The first byte is the number of units.
            bytes[at + 1..][..mark.len()].copy_from_slice(mark);
        }
        bytes
    };
    vec![
        disk(&[(1080, &[0x53, 0xef]), (1116, &[4, 0, 0, 0, 0x42, 2])]),
        disk(&[
            (0, &[0xeb, 0x3c, 0x90]),
            (11, &[0, 2, 1, 1, 0, 2]),
            (54, b"FAT16   "),
            (510, &[0x55, 0xaa]),
        ]),
        disk(&[(82, b"FAT32   "), (510, &[0x55, 0xaa])]),
        disk(&[(4085, b"SWAPSPACE2")]),
        disk(&[(446, &[0x80, 1, 1, 0, 0x83]), (510, &[0x55, 0xaa])]),
        disk(&[(450, &[0xee]), (510, &[0x55, 0xaa]), (512, b"EFI PART")]),
    ]
}
