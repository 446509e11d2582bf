//! A component, compiled once and instantiated for each call.

use std::path::Path;
use std::time::Instant;

use serde_json::value::RawValue;
use wasmtime::component::{Component, ComponentType, InstancePre, Lift, Linker, TypedFunc};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, Trap, WasmBacktrace,
};
use wasmtime_wasi::I32Exit;

use crate::host::Host;
use crate::watchdog::Watchdog;

/// What the world calls the export that serves a call.
const HANDLE: &str = "handle";
/// What a compiled component is called, in the folder that the node keeps for it.
const COMPILED: &str = "component.cwasm";
/// What a component has at most, unless it is refused; one that carries an interpreter has dozens
/// of core instances and tens of thousands of table elements.
const CORE_INSTANCES_MAX: u32 = 200;
const MEMORIES_MAX: u32 = 8;
const TABLES_MAX: u32 = 64;
const TABLE_ELEMENTS_MAX: usize = 1 << 18;
const INSTANCE_BYTES_MAX: usize = 16 << 20;
/// Memory of an ended instance that is cleared instead of given back, which saves page faults.
const KEPT_BYTES: usize = 1 << 20;
/// What a component may nest; the thread that calls it has to have more.
const STACK_BYTES_MAX: usize = 4 << 20;
/// The longest reply, a little less than what the node takes as one frame.
const RESULT_BYTES_MAX: usize = (6 << 20) - 256;

type Handle = TypedFunc<(String, String), (Result<String, Fault>,)>;

/// Whose fault an error is, as the world says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "only components make them")]
pub(crate) enum Kind {
    #[component(name = "input")]
    Input,
    #[component(name = "function")]
    Function,
    #[component(name = "system")]
    System,
}

/// An error as a component tells it.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) stacktrace: Vec<String>,
}

impl Fault {
    fn function(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Function,
            message: message.into(),
            stacktrace: Vec::new(),
        }
    }
}

/// What a worker can have before it is given its function: nothing of the function runs yet.
pub(crate) struct Ground {
    engine: Engine,
    linker: Linker<Host>,
    /// The component, if it was compiled before.
    kept: Option<InstancePre<Host>>,
    watchdog: Watchdog,
    bytes_max: usize,
}

impl Ground {
    /// An engine, and on it what was compiled into the folder before.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn lay(folder: &Path, bytes_max: usize) -> Result<Self, String> {
        let engine = Engine::new(&config(bytes_max)).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).map_err(failed)?;
        let file = folder.join(COMPILED);
        let kept = if file.exists() {
            // SAFETY: the file is what `serialize` gave below: only a worker that has yet to load
            // its function sees this folder writable, and the node mounts it read-only for others.
            let component = unsafe { Component::deserialize_file(&engine, &file) };
            let component = component.map_err(failed)?;
            Some(linker.instantiate_pre(&component).map_err(failed)?)
        } else {
            None
        };
        let watchdog = Watchdog::start(engine.clone()).map_err(|e| e.to_string())?;
        Ok(Self {
            engine,
            linker,
            kept,
            watchdog,
            bytes_max,
        })
    }
}

fn compile(engine: &Engine, component: &[u8], folder: &Path) -> Result<Component, String> {
    let component = Component::from_binary(engine, component).map_err(failed)?;
    if folder.is_dir() {
        let compiled = component.serialize().map_err(failed)?;
        std::fs::write(folder.join(COMPILED), compiled).map_err(|e| format!("{COMPILED}: {e}"))?;
    }
    Ok(component)
}

fn failed(error: wasmtime::Error) -> String {
    format!("{error:#}")
}

/// A loaded function.
pub(crate) struct Machine {
    engine: Engine,
    watchdog: Watchdog,
    component: InstancePre<Host>,
    bytes_max: usize,
    next: Option<Instance>,
}

struct Instance {
    store: Store<Host>,
    handle: Handle,
}

impl Machine {
    /// Loads a component; it is compiled first, unless it was before, and then left in the folder if
    /// that can be written to.
    ///
    /// # Errors
    /// The reason why it is no function.
    pub(crate) fn load(
        ground: Ground,
        component: impl FnOnce() -> Result<Vec<u8>, String>,
        folder: &Path,
    ) -> Result<Self, String> {
        let Ground {
            engine,
            linker,
            kept,
            watchdog,
            bytes_max,
        } = ground;
        let component = match kept {
            Some(component) => component,
            None => linker
                .instantiate_pre(&compile(&engine, &component()?, folder)?)
                .map_err(failed)?,
        };
        let mut machine = Self {
            engine,
            watchdog,
            component,
            bytes_max,
            next: None,
        };
        machine.next = Some(machine.instantiate().map_err(|fault| fault.message)?);
        Ok(machine)
    }

    fn instantiate(&self) -> Result<Instance, Fault> {
        let mut store = Store::new(&self.engine, Host::new(self.bytes_max));
        store.limiter(|host| &mut host.memory);
        store.set_epoch_deadline(1);
        let made = self.component.instantiate(&mut store).and_then(|instance| {
            let typed = instance.get_typed_func(&mut store, HANDLE);
            typed.map_err(|e| e.context("it does not export the world's handle"))
        });
        match made {
            Ok(handle) => Ok(Instance { store, handle }),
            Err(error) => Err(explain(&error, store.data())),
        }
    }

    /// Makes the instance for the next call, so that it need not wait for that.
    pub(crate) fn make_ready(&mut self) {
        if self.next.is_none() {
            // What is wrong now is tried, and told, again by the call.
            self.next = self.instantiate().ok();
        }
    }

    /// Serves one call: its result as JSON on one line.
    pub(crate) fn call(
        &mut self,
        context: &str,
        payload: &str,
        until: Option<Instant>,
    ) -> Result<String, Fault> {
        let made = match self.next.take() {
            Some(instance) => Ok(instance),
            None => self.watchdog.watch(until, || self.instantiate()),
        };
        let Instance { mut store, handle } = made?;
        // Ticks that came before are not meant for it.
        store.set_epoch_deadline(1);
        let arguments = (context.to_owned(), payload.to_owned());
        let returned = self
            .watchdog
            .watch(until, || handle.call(&mut store, arguments));
        match returned {
            Ok((Ok(result),)) => one_line(result),
            Ok((Err(fault),)) => Err(fault),
            Err(error) => Err(explain(&error, store.data())),
        }
    }
}

/// The result as a line of JSON.
fn one_line(result: String) -> Result<String, Fault> {
    if result.len() > RESULT_BYTES_MAX {
        return Err(Fault::function("the result is larger than 6 MiB"));
    }
    serde_json::from_str::<&RawValue>(&result)
        .map_err(|e| Fault::function(format!("the result is not JSON: {e}")))?;
    // Within JSON, a line can only end between two values.
    Ok(if result.contains(['\n', '\r']) {
        result.replace(['\n', '\r'], " ")
    } else {
        result
    })
}

/// Why a component ended without an answer.
fn explain(error: &wasmtime::Error, host: &Host) -> Fault {
    let trap = error.downcast_ref::<Trap>();
    let message = if trap == Some(&Trap::Interrupt) {
        "Function execution exceeded the timeout".to_owned()
    } else if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        format!("the function exited with status {status}")
    } else if host.memory.denied {
        let megabytes = host.memory.bytes_max >> 20;
        format!("the function ran out of its {megabytes} MiB of memory")
    } else {
        let inside = error.is::<WasmBacktrace>();
        let cause = match trap {
            Some(trap) => trap.to_string(),
            None if inside => error.root_cause().to_string(),
            None => format!("{error:#}"),
        };
        // A panic, or an exception that nobody caught, is told on standard error before the trap.
        if let Some(words) = host.last_words() {
            return Fault {
                stacktrace: words.trace,
                ..Fault::function(format!("{} ({cause})", words.message))
            };
        }
        cause
    };
    let frames = error.downcast_ref::<WasmBacktrace>();
    let frames = frames.map_or(&[][..], WasmBacktrace::frames).iter();
    let stacktrace = frames.map(|frame| match frame.func_name() {
        Some(name) => format!("at {name}"),
        None => format!("at function {}", frame.func_index()),
    });
    Fault {
        stacktrace: stacktrace.collect(),
        ..Fault::function(message)
    }
}

/// One instance at a time; what is compiled under one memory limit serves under any other.
fn config(bytes_max: usize) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(1)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .total_core_instances(CORE_INSTANCES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .total_memories(MEMORIES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_memory_size(bytes_max)
        .linear_memory_keep_resident(KEPT_BYTES)
        .total_tables(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .total_stacks(1);
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        .async_stack_size(2 * STACK_BYTES_MAX)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
