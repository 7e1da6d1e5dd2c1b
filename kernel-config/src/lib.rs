//! keelson-kernel
