// The vendor's CA certificates that are compiled in (-Dvendor_ca=FILE), so that an administrator
// cannot become the vendor.
#pragma once

// PEM, one or more certificates; NULL in a build without: trust.vendor_ca names them then.
extern const char *const vendor_ca_compiled_in;
