//! keelson-cache
