use displaydoc::Display;

/// The protocol that clients speak to a service: the scheme of its address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Display)]
pub enum Scheme {
    /// http
    #[default]
    Http,
    /// h2c
    H2c,
    /// grpc
    Grpc,
    /// tcp
    Tcp,
    /// ws
    Ws,
}

impl Scheme {
    /// All schemes.
    pub const ALL: [Self; 5] = [Self::Http, Self::H2c, Self::Grpc, Self::Tcp, Self::Ws];

    /// The path of requests that name no other; for gRPC, the method that tells whether a server is healthy. Connections of TCP have no path.
    pub const fn default_path(self) -> &'static str {
        match self {
            Self::Http | Self::H2c | Self::Tcp | Self::Ws => "/",
            Self::Grpc => "/grpc.health.v1.Health/Check",
        }
    }

    /// The status of a request that succeeds: OK for a connection of TCP whose server has sent a line, 101 for a WebSocket handshake.
    pub const fn success(self) -> u16 {
        match self {
            Self::Http | Self::H2c => 200,
            Self::Grpc | Self::Tcp => 0,
            Self::Ws => 101,
        }
    }

    /// Whether each request is a connection of its own.
    pub const fn is_of_connections(self) -> bool {
        matches!(self, Self::Tcp | Self::Ws)
    }

    /// Whether a path can be requested; for gRPC, whether it is that of a method, `/PACKAGE.SERVICE/METHOD`.
    pub fn takes(self, path: &str) -> bool {
        let is_name = |name: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
            !name.is_empty() && name.bytes().all(is_part)
        };
        match self {
            Self::Http | Self::H2c | Self::Ws => path.starts_with('/'),
            Self::Tcp => path == "/",
            Self::Grpc => {
                let names = path.strip_prefix('/').and_then(|path| path.split_once('/'));
                names.is_some_and(|(service, method)| is_name(service) && is_name(method))
            }
        }
    }
}
