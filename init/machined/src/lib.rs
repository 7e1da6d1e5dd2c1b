//! keelson-machined
