"""How is an index chosen, built and measured?"""
