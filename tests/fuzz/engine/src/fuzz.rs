//! Puts LibAFL's parts together and runs them for a while.

use std::io;
use std::path::PathBuf;

use libafl::corpus::{Corpus, InMemoryCorpus, OnDiskCorpus};
use libafl::events::SimpleEventManager;
use libafl::executors::inprocess::InProcessExecutor;
use libafl::executors::{ExitKind, ShadowExecutor};
use libafl::feedbacks::{CrashFeedback, MapFeedbackMetadata, MaxMapFeedback, TimeoutFeedback};
use libafl::fuzzer::{Evaluator, Fuzzer, StdFuzzer};
use libafl::inputs::{BytesInput, HasTargetBytes};
use libafl::monitors::NopMonitor;
use libafl::mutators::{
    HavocScheduledMutator, I2SRandReplace, Tokens, havoc_mutations, tokens_mutations,
};
use libafl::observers::{CanTrack, HitcountsMapObserver, StdMapObserver, TimeObserver};
use libafl::schedulers::powersched::PowerSchedule;
use libafl::schedulers::{IndexesLenTimeMinimizerScheduler, StdWeightedScheduler};
use libafl::stages::{
    CalibrationStage, ShadowTracingStage, StdMutationalStage, StdPowerMutationalStage,
};
use libafl::state::{HasCorpus, HasExecutions, HasMaxSize, StdState};
use libafl::{HasMetadata, HasNamedMetadata, feedback_or_fast};
use libafl_bolts::ownedref::OwnedMutSlice;
use libafl_bolts::rands::StdRand;
use libafl_bolts::tuples::{Merge, tuple_list};
use libafl_targets::CmpLogObserver;

use crate::Target;
use crate::arguments::Run;
use crate::found::{LONGEST_EXECUTION, limit_memory, tell_panics_in_short};
use crate::progress::{Numbers, Progress};
use crate::seeds::{load, words};

/// Name of the map of edges among the engine's parts.
const EDGES: &str = "edges";

/// The target could not be fuzzed, or not to the end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FuzzError {
    #[error("this program was compiled without coverage: start it by keelson-build test fuzz")]
    NoCoverage,
    #[error("there are no seeds: the target makes none, and no file has any")]
    NoSeeds,
    #[error("cannot limit the memory of this program: {0}")]
    Memory(#[source] rustix::io::Errno),
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the engine failed: {0}")]
    Engine(#[from] libafl::Error),
}

/// Fuzzes for the time given. A panic, a signal or a hang in the target ends the program from
/// within, after the input was written.
pub(crate) fn fuzz(target: Target, run: &Run) -> Result<(), FuzzError> {
    limit_memory().map_err(FuzzError::Memory)?;
    tell_panics_in_short();
    let mut seeds = (target.seeds)();
    for path in &run.seeds {
        seeds.extend(load(path)?);
    }

    let edges = StdMapObserver::from_mut_slice(EDGES, counters()?);
    let edges = HitcountsMapObserver::new(edges).track_indices();
    let comparisons = CmpLogObserver::new("comparisons", true);
    let mut feedback = MaxMapFeedback::new(&edges);
    let calibration = CalibrationStage::new(&feedback);
    let mut objective = feedback_or_fast!(CrashFeedback::new(), TimeoutFeedback::new());
    let mut state = StdState::new(
        StdRand::new(),
        InMemoryCorpus::<BytesInput>::new(),
        OnDiskCorpus::no_meta(&run.found)?,
        &mut feedback,
        &mut objective,
    )?;
    state.set_max_size(target.longest);
    let mut tokens = Tokens::new();
    tokens.add_tokens(words(&seeds));
    state.add_metadata(tokens);

    let mut manager = SimpleEventManager::new(NopMonitor::new());
    let scheduler = IndexesLenTimeMinimizerScheduler::new(
        &edges,
        StdWeightedScheduler::with_schedule(&mut state, &edges, Some(PowerSchedule::fast())),
    );
    let mut fuzzer = StdFuzzer::new(scheduler, feedback, objective);
    let mut call = |input: &BytesInput| {
        (target.run)(&input.target_bytes());
        ExitKind::Ok
    };
    let executor = InProcessExecutor::builder()
        .timeout(LONGEST_EXECUTION)
        .crashdump(false)
        .harness(&mut call)
        .observers(tuple_list!(edges, TimeObserver::new("time")))
        .fuzzer(&mut fuzzer)
        .state(&mut state)
        .event_mgr(&mut manager)
        .build()?;
    let mut executor = ShadowExecutor::new(executor, tuple_list!(comparisons));
    // What was compared with what tells which bytes to put where; then the usual disorder.
    let mut stages = tuple_list!(
        calibration,
        ShadowTracingStage::new(),
        StdMutationalStage::new(HavocScheduledMutator::new(tuple_list!(
            I2SRandReplace::new()
        ))),
        StdPowerMutationalStage::new(HavocScheduledMutator::new(
            havoc_mutations().merge(tokens_mutations())
        ))
    );

    let mut progress = Progress::new();
    for mut seed in seeds {
        seed.truncate(target.longest);
        fuzzer.evaluate_input(
            &mut state,
            &mut executor,
            &mut manager,
            &BytesInput::new(seed),
        )?;
    }
    if state.corpus().is_empty() {
        return Err(FuzzError::NoSeeds);
    }
    while progress.elapsed() < run.time {
        fuzzer.fuzz_one(&mut stages, &mut executor, &mut state, &mut manager)?;
        progress.tell(|| numbers(&state));
    }
    progress.end(numbers(&state));
    Ok(())
}

fn numbers<S>(state: &S) -> Numbers
where
    S: HasExecutions + HasCorpus<BytesInput> + HasNamedMetadata,
{
    Numbers {
        executions: *state.executions(),
        edges: state
            .named_metadata::<MapFeedbackMetadata<u8>>(EDGES)
            .map_or(0, |map| map.num_covered_map_indexes),
        inputs: state.corpus().count(),
    }
}

/// The counters that the compiler put into this program, one for each edge.
#[allow(unsafe_code)]
fn counters() -> Result<OwnedMutSlice<'static, u8>, FuzzError> {
    // SAFETY: the slices lie in the data of this program, which is never unmapped. Nobody else
    // asks for them, so the observer that gets them is the only one that reads and resets them;
    // the code of the target adds to them while the observer is not at work, on the same thread.
    // LibAFL's safe ways to them (std_edges_map_observer) are unsafe calls too.
    let maps = unsafe { libafl_targets::extra_counters() };
    // One program has one map: the linker puts the counters of all crates in a row.
    maps.into_iter().next().ok_or(FuzzError::NoCoverage)
}
