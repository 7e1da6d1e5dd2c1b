//! keelson-init
