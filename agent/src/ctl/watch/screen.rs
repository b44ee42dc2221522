//! The terminal while the page has it, and as it was before: put back at the end, on an error and in a panic.
//! Knows nothing of what is drawn.

use std::io::{IsTerminal as _, Stdout};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, Once, PoisonError};

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use nix::sys::signal::{Signal, raise};
use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

/// The page has the terminal; with standard error, where that was the terminal as well.
static TAKEN: Mutex<Option<Option<OwnedFd>>> = Mutex::new(None);
static HOOKED: Once = Once::new();

/// The terminal, until it is dropped.
pub struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it refuses.
    pub fn open() -> std::io::Result<Self> {
        HOOKED.call_once(|| {
            let before = std::panic::take_hook();
            // What a panic says would go with the page otherwise.
            std::panic::set_hook(Box::new(move |info| {
                give_back();
                before(info);
            }));
        });
        take()?;
        let terminal = Terminal::new(CrosstermBackend::new(std::io::stdout()));
        terminal.map(Self).inspect_err(|_| give_back())
    }

    /// Draws one picture.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> std::io::Result<()> {
        self.0.draw(picture).map(drop)
    }

    /// The next picture is drawn whole.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn clear(&mut self) -> std::io::Result<()> {
        self.0.clear()
    }

    /// Stops this process as Ctrl-Z does, and goes on when the shell says so.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn suspend(&mut self) -> std::io::Result<()> {
        give_back();
        raise(Signal::SIGTSTP)?;
        take()?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> std::io::Result<()> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    enable_raw_mode()?;
    *taken = Some(quiet());
    drop(taken);
    execute!(std::io::stdout(), EnterAlternateScreen).inspect_err(|_| give_back())
}

/// Log lines would be written across the page; those that matter are in the journals of the nodes. The descriptor for later.
fn quiet() -> Option<OwnedFd> {
    let stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return None;
    }
    let kept = nix::unistd::dup(&stderr).ok()?;
    let nowhere = std::fs::File::options().write(true).open("/dev/null");
    nix::unistd::dup2_stderr(nowhere.ok()?).ok()?;
    Some(kept)
}

/// Once for each time that it was taken.
fn give_back() {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(stderr) = taken.take() else { return };
    // One that has gone needs nothing.
    let _ = execute!(std::io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    if let Some(stderr) = stderr {
        let _ = nix::unistd::dup2_stderr(stderr);
    }
}
