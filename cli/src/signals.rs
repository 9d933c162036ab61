//! The signals that end a command, or try to.

use std::io;
use std::process::ExitCode;

/// A signal that a command is told of instead of being ended by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a request to end. On Windows: the console is closed, or the system shuts down.
    Terminate,
    /// SIGHUP: the terminal is gone. Never seen on Windows.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    Hangup,
}

impl Signal {
    /// How a command ends that a signal cut short: with 128 and the signal's number, as shells have it.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(128 + self.number())
    }

    fn number(self) -> u8 {
        match self {
            Signal::Hangup => 1,
            Signal::Interrupt => 2,
            Signal::Terminate => 15,
        }
    }
}

pub use platform::Signals;

impl Signals {
    /// What comes of the work, or the signal that came first; the work is dropped then.
    pub async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Signal> {
        tokio::select! {
            done = work => Ok(done),
            signal = self.next() => Err(signal),
        }
    }
}

#[cfg(unix)]
mod platform {
    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    use super::{Signal, io};

    /// The signals of the process, from when they are listened to.
    #[derive(Debug)]
    pub struct Signals {
        interrupt: Stream,
        terminate: Stream,
        /// `None` where the command was started to outlive its terminal, as `nohup` does.
        hangup: Option<Stream>,
    }

    impl Signals {
        /// Listens. From now on, no signal of these ends the process by itself.
        ///
        /// # Errors
        /// When the system does not let it.
        pub fn listen() -> io::Result<Signals> {
            Ok(Signals {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: match is_ignored(Signal::Hangup) {
                    true => None,
                    false => Some(signal(SignalKind::hangup())?),
                },
            })
        }

        /// The next signal. None is lost while nothing waits for it.
        pub async fn next(&mut self) -> Signal {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.interrupt.recv() => Signal::Interrupt,
                _ = self.terminate.recv() => Signal::Terminate,
                () = hangup => Signal::Hangup,
            }
        }
    }

    /// Whether the process was started with the signal ignored. Only Linux says so without unsafe code.
    fn is_ignored(signal: Signal) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & (1 << (signal.number() - 1)) != 0)
    }
}

#[cfg(windows)]
mod platform {
    use tokio::signal::windows::{
        CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
    };

    use super::{Signal, io};

    /// The signals of the process, from when they are listened to.
    #[derive(Debug)]
    pub struct Signals {
        interrupt: CtrlC,
        brk: CtrlBreak,
        close: CtrlClose,
        shutdown: CtrlShutdown,
    }

    impl Signals {
        /// Listens. From now on, no signal of these ends the process by itself.
        ///
        /// # Errors
        /// When the system does not let it.
        pub fn listen() -> io::Result<Signals> {
            Ok(Signals {
                interrupt: ctrl_c()?,
                brk: ctrl_break()?,
                close: ctrl_close()?,
                shutdown: ctrl_shutdown()?,
            })
        }

        /// The next signal. None is lost while nothing waits for it.
        pub async fn next(&mut self) -> Signal {
            tokio::select! {
                _ = self.interrupt.recv() => Signal::Interrupt,
                _ = self.brk.recv() => Signal::Interrupt,
                _ = self.close.recv() => Signal::Terminate,
                _ = self.shutdown.recv() => Signal::Terminate,
            }
        }
    }
}
