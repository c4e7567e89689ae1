// What mlx-c needs of C++20's <format>, for compilers that have none (g++ 12): `{}` and nothing else.
// mlx-c includes it nowhere itself, so this is included before everything else.
#pragma once

#if __has_include(<format>)
#include <format>
#else

#include <sstream>
#include <string>
#include <string_view>

namespace std {

template <typename... Arguments>
string format(string_view text, const Arguments&... arguments) {
  ostringstream out;
  [[maybe_unused]] auto next = [&](const auto& argument) {
    auto hole = text.find("{}");
    out << text.substr(0, hole) << argument;
    text.remove_prefix(hole == string_view::npos ? text.size() : hole + 2);
  };
  (next(arguments), ...);
  out << text;
  return out.str();
}

} // namespace std

#endif
