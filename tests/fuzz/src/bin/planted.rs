//! A panic behind a few bytes that chance alone does not find: the fuzzer must.

use std::process::ExitCode;

use keelson_fuzz_engine::Target;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds: || vec![b"nothing to see here".to_vec()],
        longest: 64,
    })
}

fn run(bytes: &[u8]) {
    let Some((magic, [b'!', ..])) = bytes.split_first_chunk() else {
        return;
    };
    if u32::from_be_bytes(*magic) == 0x4b65_656c {
        panic!("the planted panic");
    }
}
