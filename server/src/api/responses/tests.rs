//! Tests of the translation as a whole, on the shapes that clients send.

mod properties;
mod request;
mod store;
mod stream;
