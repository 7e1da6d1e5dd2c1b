//! keelson-kubeclient
