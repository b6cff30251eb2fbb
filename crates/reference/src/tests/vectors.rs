//! Golden vectors: see below.
