//! keelson-netd
