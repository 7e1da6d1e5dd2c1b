//! Answers to `keelson probe`: HTTP, and the few frames of HTTP/2 that gRPC's health call takes.

use std::process::ExitCode;

use keelson_fuzz_engine::Target;
use keelson_probe::fuzzing;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 4096,
    })
}

fn run(bytes: &[u8]) {
    match keelson_fuzz::choose(bytes, 2) {
        (0, answer) => http(answer),
        (_, answer) => {
            // Whatever comes of it, it ends.
            let _ = fuzzing::converse_grpc(answer);
        }
    }
}

fn http(answer: &[u8]) {
    match fuzzing::judge_http(answer) {
        Ok(()) => assert!(answer.starts_with(b"HTTP/1."), "{answer:?}"),
        // It goes to the console.
        Err(problem) => assert!(!problem.chars().any(char::is_control), "{problem:?}"),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let http = b"\x00HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nsick\n";
    let mut grpc = vec![1];
    for (kind, flags, stream, payload) in [
        (4, 0, 0, &[0, 3, 0, 0, 0, 100][..]),
        (4, 1, 0, &[]),
        (6, 0, 0, &[1, 2, 3, 4, 5, 6, 7, 8]),
        (1, 4, 1, &[0x88]),
        (0, 0, 1, &[0, 0, 0, 0, 2, 8, 1]),
        (1, 5, 1, &[0x88]),
    ] {
        let length = u8::try_from(payload.len()).unwrap_or_default();
        grpc.extend([0, 0, length, kind, flags, 0, 0, 0, stream]);
        grpc.extend(payload);
    }
    vec![http.to_vec(), grpc]
}
