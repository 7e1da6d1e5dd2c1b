//! keelson-stage1
