//! The interface for people and programs, `/api/v1`.
