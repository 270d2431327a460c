# IN (text) → OUT (C): its bytes as tw_rules_default.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "((0x[0-9a-f][0-9a-f],){16})" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include \"tw/rules.h\"\n\nconst char tw_rules_default[] = {\n${bytes}0};\nconst size_t tw_rules_default_n = sizeof(tw_rules_default) - 1;\n")
