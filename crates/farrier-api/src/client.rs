//! A client over TLS with a pinned certificate authority.
