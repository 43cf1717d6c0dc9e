//! A whole spike on this machine.
mod assets;
mod curve;
mod expect;
mod html;
mod origin;
mod page;
mod visitor;
