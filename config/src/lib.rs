//! keelson-config
