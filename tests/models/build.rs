//! The sources of the library are told that they are models, and nothing that they depend on is: tokio stays as it is.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(loom)");
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    println!("cargo:rustc-check-cfg=cfg(docsrs)");
    println!("cargo:rustc-cfg=loom");
}
