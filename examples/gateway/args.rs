//! The command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
The full gateway in front of several Azure OpenAI resources

Usage: aoai-gateway [--config FILE [--check [--live] | --health]]
       aoai-gateway --hash-key < KEY

  --config FILE  read the configuration from FILE; without it, simulated backends are started
  --check        validate FILE, print what would be served, and exit with status 0 or 2
  --live         ask every backend too, without spending tokens: names, TLS, credentials, deployments
  --health       ask the gateway that runs with FILE whether it is alive, and exit with status 0 or 2
  --hash-key     print what key_sha256 takes for the key on the standard input, which must be no terminal
  --help         print this text
";

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Args {
    pub(crate) config: Option<PathBuf>,
    pub(crate) check: bool,
    pub(crate) live: bool,
    pub(crate) health: bool,
    pub(crate) hash_key: bool,
    pub(crate) help: bool,
}

impl Args {
    /// Reads the arguments that follow the program's name; the error is a sentence for a person.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let mut parsed = Self::default();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--config") => parsed.set_config(args.next().as_deref())?,
                Some("--check") => parsed.check = true,
                Some("--live") => parsed.live = true,
                Some("--health") => parsed.health = true,
                Some("--hash-key") => parsed.hash_key = true,
                Some("--help" | "-h") => parsed.help = true,
                Some(arg) if arg.starts_with("--config=") => {
                    parsed.set_config(arg.strip_prefix("--config=").map(OsStr::new))?;
                }
                // It may be the key.
                _ if parsed.hash_key => return Err("--hash-key takes the key from the standard input".to_owned()),
                _ => return Err(format!("unknown argument {arg:?}")),
            }
        }
        if parsed.hash_key && (parsed.config.is_some() || parsed.check || parsed.health) {
            return Err("--hash-key goes alone".to_owned());
        }
        if parsed.check && parsed.config.is_none() && !parsed.help {
            return Err("--check needs --config FILE".to_owned());
        }
        if parsed.health && (parsed.config.is_none() || parsed.check) && !parsed.help {
            return Err("--health goes with --config FILE alone".to_owned());
        }
        if parsed.live && !parsed.check && !parsed.help {
            return Err("--live needs --check".to_owned());
        }
        Ok(parsed)
    }

    fn set_config(&mut self, file: Option<&OsStr>) -> Result<(), String> {
        let file = file.filter(|file| !file.is_empty()).ok_or("--config needs a FILE")?;
        if self.config.replace(file.into()).is_some() {
            return Err("--config is given twice".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, String> {
        Args::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn reads_every_form() {
        let config = |check| Args { config: Some("g.toml".into()), check, ..Args::default() };
        assert_eq!(parse(&[]), Ok(Args::default()));
        assert_eq!(parse(&["--config", "g.toml"]), Ok(config(false)));
        assert_eq!(parse(&["--config=g.toml", "--check"]), Ok(config(true)));
        assert_eq!(parse(&["--check", "--config", "g.toml"]), Ok(config(true)));
        assert_eq!(parse(&["--live", "--check", "--config=g.toml"]), Ok(Args { live: true, ..config(true) }));
        assert_eq!(parse(&["--health", "--config=g.toml"]), Ok(Args { health: true, ..config(false) }));
        assert_eq!(parse(&["--hash-key"]), Ok(Args { hash_key: true, ..Args::default() }));
        assert_eq!(parse(&["--help"]), Ok(Args { help: true, ..Args::default() }));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (args, expected) in [
            (&["--confg", "x"][..], "unknown argument \"--confg\""),
            (&["gateway.toml"], "unknown argument \"gateway.toml\""),
            (&["--config"], "--config needs a FILE"),
            (&["--config="], "--config needs a FILE"),
            (&["--config", "a", "--config", "b"], "--config is given twice"),
            (&["--check"], "--check needs --config FILE"),
            (&["--check", "--live"], "--check needs --config FILE"),
            (&["--config", "a", "--live"], "--live needs --check"),
            (&["--live"], "--live needs --check"),
            (&["--health"], "--health goes with --config FILE alone"),
            (&["--health", "--check", "--config=a"], "--health goes with --config FILE alone"),
            (&["--hash-key", "--config", "a"], "--hash-key goes alone"),
            (&["--check", "--hash-key"], "--hash-key goes alone"),
            (&["--hash-key", "the-key"], "--hash-key takes the key from the standard input"),
        ] {
            assert_eq!(parse(args), Err(expected.to_owned()), "{args:?}");
        }
    }
}
