//! Tests of the translation as a whole, on the shapes that clients send.

mod options;
mod properties;
mod request;
mod stream;
