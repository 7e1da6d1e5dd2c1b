//! keelson-tools
