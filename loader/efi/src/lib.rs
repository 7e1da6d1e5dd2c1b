//! keelson-loader
