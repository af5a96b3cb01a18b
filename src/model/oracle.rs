//! What must become of a packet, from the model alone.
