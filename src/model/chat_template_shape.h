// Brings Jinja texts that differ only in layout into one form, so that templates can be compared.
#pragma once

#include <string>
#include <string_view>

namespace tessera::model {

// Every tag without the white space in it and without the marks of white-space control; comments and white space
// between tags left out; strings in single quotes, with \n for a newline, neighbours joined ('a' + 'b' is 'ab');
// message.role is message['role']. The result identifies a template up to layout; it need not be Jinja.
std::string jinja_shape(std::string_view jinja);

}  // namespace tessera::model
