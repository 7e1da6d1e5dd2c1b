//! keelson-service
