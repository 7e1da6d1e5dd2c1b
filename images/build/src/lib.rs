//! keelson-build
