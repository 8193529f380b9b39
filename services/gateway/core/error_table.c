#include "services/gateway/core/error_table.h"

static const struct error_kind kinds[ERROR_KINDS] = {
    {-32603, NULL, "InternalError", 0, 200,
     "the server failed to answer this call; its log says why"},
    {-32700, NULL, "ParseError", 0, 200, "the body is not acceptable JSON"},
    {-32600, NULL, "InvalidRequest", 0, 200, "not a JSON-RPC 2.0 call"},
    {-32601, NULL, "MethodNotFound", 0, 200, "there is no such method"},
    {-32602, NULL, "InvalidParams", ERROR_DATA_FIELD | ERROR_DATA_REASON, 200,
     "a parameter is not as it must be"},
    {1001, "NoLicense", "NoLicense", ERROR_DATA_CONSIDERED, 200,
     "no license of this server can serve the request; ask your administrator for one"},
    {1002, "NoSeat", "NoSeat", ERROR_DATA_CONSIDERED | ERROR_DATA_RETRY_AFTER, 200,
     "all seats are in use; try again later"},
    {1003, "SessionInvalid", "SessionInvalid", ERROR_DATA_REASON, 200,
     "this session is not valid; request a new one"},
    {1004, "ServerNotLicensed", "ServerNotLicensed", ERROR_DATA_REASON, 200,
     "the server is not licensed at the moment; tell its administrator"},
    {1005, "BorrowNotAllowed", "BorrowNotAllowed", ERROR_DATA_REASON, 200,
     "this server's license does not allow borrowing"},
    {1006, "BorrowPeriodInvalid", "BorrowPeriodInvalid", ERROR_DATA_REASON | ERROR_DATA_LIMIT, 200,
     "a license cannot be borrowed for this period"},
    {1007, "BorrowNotAvailable", "BorrowNotAvailable", ERROR_DATA_PERIOD, 200,
     "every seat is borrowed at some time of this period; choose another one"},
    {1008, "NotFound", "NotFound", 0, 200, "there is no such license or borrow"},
    {1009, "Unauthorized", "Unauthorized", 0, 401,
     "this needs a token: send the header Authorization: Bearer TOKEN"},
    {1010, "RateLimited", "RateLimited", ERROR_DATA_RETRY_AFTER, 429,
     "too many requests from this address; wait, then try again"},
    {1011, "Unavailable", "Unavailable", ERROR_DATA_SERVICE, 200,
     "a part of the server does not answer at the moment; try again in a few seconds"},
};

const struct error_kind *error_kind_of(int code)
{
    for (size_t i = 0; i < ERROR_KINDS; i++) {
        if (kinds[i].code == code)
            return &kinds[i];
    }
    return &kinds[0];
}
