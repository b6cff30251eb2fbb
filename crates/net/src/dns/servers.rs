//! Answers of name servers, by hickory-resolver: its cache, its retries, its time limits.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Semantic, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::{DnsError, SourceError};

/// Most responses in the cache.
const CACHE: u64 = 8_192;
/// Longest time for which a positive answer is kept, and a negative one.
const LONGEST: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(3_600));

/// As the system is configured.
pub(super) fn system() -> Result<TokioResolver, SourceError> {
    let builder = TokioResolver::builder_tokio().map_err(setup_error)?;
    build(builder.with_options(options(ResolveHosts::Always)))
}

/// From these servers only.
pub(super) fn given(addresses: &[SocketAddr]) -> Result<TokioResolver, SourceError> {
    if addresses.is_empty() {
        return Err(SourceError::Servers("the list of name servers is empty".into()));
    }
    let servers = addresses.iter().map(|address| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.into())
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    build(builder.with_options(options(ResolveHosts::Never)))
}

fn options(hosts: ResolveHosts) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.cache_size = CACHE;
    (options.positive_max_ttl, options.negative_max_ttl) = (Some(LONGEST.0), Some(LONGEST.1));
    options.use_hosts_file = hosts;
    options.try_tcp_on_error = true;
    options
}

type Builder = hickory_resolver::ResolverBuilder<TokioRuntimeProvider>;

fn build(builder: Builder) -> Result<TokioResolver, SourceError> {
    builder.build().map_err(setup_error)
}

fn setup_error(error: NetError) -> SourceError {
    SourceError::Servers(error.to_string())
}

/// Records of one type, and how long they may be kept; CNAMEs have been followed and are left out.
pub(super) async fn lookup(
    resolver: &TokioResolver,
    name: Name,
    kind: RecordType,
) -> Result<(Vec<RData>, Duration), DnsError> {
    let found = resolver.lookup(name, kind).await.map_err(|error| meaning(&error))?;
    let records = found.answers().iter().filter(|record| record.record_type() == kind);
    let ttl = found.valid_until().saturating_duration_since(Instant::now());
    Ok((records.map(|record| record.data.clone()).collect(), ttl))
}

fn meaning(error: &NetError) -> DnsError {
    match error {
        NetError::Dns(Semantic::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsError::NoSuchDomain,
            ResponseCode::NoError => DnsError::NoRecords,
            code => DnsError::Temporary(format!("the name server says {code}")),
        },
        other => DnsError::Temporary(other.to_string()),
    }
}
