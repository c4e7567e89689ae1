//! Folders that match their manifests, and all the ways in which they do not.
