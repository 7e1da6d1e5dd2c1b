//! keelson-rootfs
