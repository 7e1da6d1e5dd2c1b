//! keelson-buildroot
