//! keelson-bootstate
