//! `print!` and its kin for this crate: they take the place of the standard ones, which panic when nobody reads any more
//! (`wa-agent history | head -1`). Here the process ends quietly instead, as one that SIGPIPE ended.
//! What goes to standard error and cannot be written is dropped: there is nobody to tell.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::Exit;

/// The process has children to end: it stops as if Ctrl-C had been typed.
static GENTLY: AtomicBool = AtomicBool::new(false);

macro_rules! print {
    ($($words:tt)*) => { $crate::say::out(format_args!($($words)*)) };
}
macro_rules! println {
    () => { $crate::say::out(format_args!("\n")) };
    ($($words:tt)*) => { $crate::say::out(format_args!("{}\n", format_args!($($words)*))) };
}
macro_rules! eprintln {
    () => { $crate::say::err(format_args!("\n")) };
    ($($words:tt)*) => { $crate::say::err(format_args!("{}\n", format_args!($($words)*))) };
}
/// With ANSI styles, which are stripped where no terminal looks.
macro_rules! styled {
    ($($words:tt)*) => { $crate::say::styled(format_args!($($words)*)) };
}

/// From now on a reader that goes away ends this process by SIGINT to itself.
pub fn end_gently() {
    GENTLY.store(true, Ordering::Relaxed);
}

/// To standard output.
pub fn out(words: Arguments<'_>) {
    said(std::io::stdout().lock().write_fmt(words));
}

/// To standard output, with styles.
pub fn styled(words: Arguments<'_>) {
    said(anstream::stdout().lock().write_fmt(words));
}

/// To standard error.
pub fn err(words: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(words);
}

fn said(done: std::io::Result<()>) {
    let Err(error) = done else { return };
    let exit = match error.kind() {
        ErrorKind::BrokenPipe => Exit::Unread,
        _ => {
            err(format_args!("wa-agent: cannot write the output: {error}\n"));
            Exit::Failure
        }
    };
    match GENTLY.load(Ordering::Relaxed) {
        true => drop(nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT)),
        false => std::process::exit(i32::from(exit.code())),
    }
}
