//! Facts from a folder of YAML and JSON files.
