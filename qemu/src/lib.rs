//! keelson-qemu
