//! keelson-supervisor
