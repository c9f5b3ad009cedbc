//! Building the answer to a request. Plain functions: the request and a decision-shaped input in, the
//! reply message and where it must travel out.
