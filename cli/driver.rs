//! What drivers of adapters take from their surroundings.
//!
//! Takes nothing and returns nothing: it may start the command anew.

/// Starts the command anew without a layer of Mesa's Vulkan driver that asks the desktop for its
/// preferred adapter, where there is no desktop: it prints errors there. Which adapter runs a
/// program is chosen by the command's own rules in any case.
pub(crate) fn leave_out_desktop() {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        use std::process::Command;
        use std::{env, io};

        const LAYER_OFF: &str = "NODEVICE_SELECT";
        let is_set = |name: &str| env::var_os(name).is_some();
        if is_set("XDG_RUNTIME_DIR") || is_set(LAYER_OFF) {
            return;
        }
        let start = |program: std::path::PathBuf| -> io::Error {
            let mut command = Command::new(program);
            command
                .args(env::args_os().skip(1))
                .env(LAYER_OFF, "1")
                .exec()
        };
        // It returns only where the command cannot be started; then the errors are printed.
        let _ = env::current_exe().map(start);
    }
}
