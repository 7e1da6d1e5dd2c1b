//! keelson-storage
