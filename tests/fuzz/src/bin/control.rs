//! PID 1's control socket: bytes of a client to lines, lines to requests.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;

use keelson_control::{MAX_FRAME, Request, decode, encode};
use keelson_fuzz_engine::Target;
use keelson_init::fuzzing::Line;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds: Vec::new,
        longest: 4096,
    })
}

fn run(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        request(line);
    }
    framing(bytes);
}

/// A request that is understood survives being written.
fn request(line: &[u8]) {
    let Ok(request) = decode::<Request>(line) else {
        return;
    };
    let written = match encode(&request) {
        Ok(written) => written,
        Err(error) => panic!("{request:?} cannot be written: {error}"),
    };
    assert!(written.len() <= MAX_FRAME);
    match decode::<Request>(&written) {
        Ok(again) => assert_eq!(again, request),
        Err(error) => panic!("{request:?} cannot be read again: {error}"),
    }
}

/// However the bytes arrive, the lines are the same.
fn framing(bytes: &[u8]) {
    thread_local! {
        static LINE: RefCell<Option<Line>> = const { RefCell::new(None) };
    }
    let (size, bytes) = keelson_fuzz::choose(bytes, 32);
    let mut expected: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // What comes after the last newline is no line yet; it is ended below.
    let last = expected.pop().unwrap_or_default();
    LINE.with_borrow_mut(|line| {
        let line = line.get_or_insert_with(open);
        let mut lines = Vec::new();
        for part in bytes.chunks(64 * size + 1).chain([&b"\n"[..]]) {
            match line.pass(part) {
                Ok(Some(more)) => lines.extend(more),
                Ok(None) => panic!("a short line ended the connection"),
                Err(error) => panic!("the control socket does not take {part:?}: {error}"),
            }
        }
        assert_eq!(lines.pop().as_deref(), Some(last));
        assert_eq!(lines, expected);
    });
}

fn open() -> Line {
    let path = PathBuf::from(format!(
        "/dev/shm/keelson-fuzz-control-{}",
        std::process::id()
    ));
    let line = Line::open(&path);
    // Nobody else is to connect; the connection lives without the name.
    let _ = std::fs::remove_file(&path);
    match line {
        Ok(line) => line,
        Err(error) => panic!("no control socket at {}: {error}", path.display()),
    }
}
