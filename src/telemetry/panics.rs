//! What is said of a panic: where it was, and its message where that stands in the source as it is. One that was put together may quote a request: slicing a
//! text at a wrong place quotes the text.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use super::complain;

/// Says so on standard error from now on, instead of the standard library.
pub fn hush_panics() {
    std::panic::set_hook(Box::new(|panic| complain(said(panic))));
}

fn said(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("its message is kept back, since it may quote a request");
    let trace = Backtrace::capture();
    let trace = if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
    format!("error: thread `{}` panicked at {place}: {message}{trace}", thread.name().unwrap_or("unnamed"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is said of a panic in a thread of its own; the hook of all others stays what it is.
    fn of(act: impl FnOnce() + Send + 'static) -> String {
        const NAME: &str = "panics on purpose";
        let heard = Arc::new(Mutex::new(String::new()));
        let (kept, before) = (Arc::clone(&heard), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some(NAME) {
                *kept.lock().expect("no panic") = said(panic);
            } else {
                before(panic);
            }
        }));
        assert!(std::thread::Builder::new().name(NAME.to_owned()).spawn(act).expect("a thread").join().is_err());
        heard.lock().expect("no panic").clone()
    }

    #[test]
    fn a_message_that_was_put_together_is_kept_back_and_its_place_is_told() {
        let token = String::from("se\u{e9}cret-token");
        let said = of(move || drop(token.split_at(3).0.to_owned()));
        assert!(!said.contains("cret-token"), "{said}");
        // The place is one of the standard library, unless there is a trace.
        assert!(said.contains(".rs:") && said.contains("kept back"), "{said}");
        let token = String::from("wX7k-token");
        let said = of(move || panic!("it is {token}"));
        assert!(!said.contains("wX7k") && said.contains("panics.rs:"), "{said}");
        assert!(of(|| panic!("as it stands here")).contains(": as it stands here"));
    }
}
