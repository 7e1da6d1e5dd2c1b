//! keelson-control
