"""How is a provider called over HTTP? Hosts, keys, headers, proxies, certificates, and the bounds of a call."""
