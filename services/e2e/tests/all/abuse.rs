mod bytes;
mod identity;
mod reading;
mod streams;
