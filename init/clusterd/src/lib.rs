//! keelson-clusterd
