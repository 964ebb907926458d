//! Writing to a connection that has a say only in what is read.

/// Implements hyper's or tokio's writing by that of a field: both have the same methods.
macro_rules! writes_through {
    ([$($generics:tt)*] $write:ident for $connection:ty => $io:tt) => {
        impl<$($generics)*> $write for $connection {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.$io).poll_write(cx, bytes)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.$io).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.$io).poll_shutdown(cx)
            }

            fn is_write_vectored(&self) -> bool {
                self.$io.is_write_vectored()
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.$io).poll_write_vectored(cx, bytes)
            }
        }
    };
}

pub(crate) use writes_through;
