//! keelson-probe
